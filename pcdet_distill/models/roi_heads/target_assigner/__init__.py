"""Which proposals a second stage is trained on, and what it has to predict for them."""
