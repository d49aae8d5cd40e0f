"""What runs a model, in this process or behind a server, below LangChain: tokens, framing, stops, forms, drafts."""
