"""Workers as the coordinator sees them: started, connected, heard, timed, and replaced."""
