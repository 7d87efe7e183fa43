"""The file of requests: told apart, checked, indexed, and read line by line."""
