"""Parts that several slots share: settings, box coders, losses, weighted batch normalisation."""
