"""The Inception family as tables of blocks, the layers beneath, and Model around them."""
