"""An implementation of the specification of its own, for verify_vectors: nothing of channelpay is imported."""
