"""Parts that several slots share: box coders, losses, weighted batch normalisation."""
