"""Several settings of servers, each started, measured and stopped, and then compared."""
