"""What planning in latent space has to beat, trained on the same logs: two policies, and a generator of pictures."""
