"""Which proposals a second stage is trained on, and towards what."""
