"""What is to be run, made from the settings and the machine."""
