"""What the node knows of models (manifest, catalogue) and which of them are resident (slots)."""
