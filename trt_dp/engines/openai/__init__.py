"""The engine for servers that speak OpenAI's API: one endpoint for each worker."""
