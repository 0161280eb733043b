"""Files of strain in GWOSC's layout, which the client and the buffer write, and HDF5 on a full disk."""
