"""What turns chats into prompts, and what ends an answer at a word."""
