"""Holdings: labelled sets of files of users, beside the strain."""
