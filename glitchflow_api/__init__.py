"""The one public door: speaks the datastore's contract to the world and documents it."""
