"""The GPU types on offer: price, size, how a runtime finds them."""
