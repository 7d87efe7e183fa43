"""From a row to chat messages: templates, examples, and the two forms that a prompt can have."""
