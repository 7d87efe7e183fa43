"""The own server: OpenAI's protocol in front of any engine. It is for tests and small use."""
