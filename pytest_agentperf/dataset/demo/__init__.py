"""What the synthesised demo dataset is made of: drawing, words, code per language, tools and their output."""
