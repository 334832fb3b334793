"""Import paths of users' scripts for what concerns the machine."""
