"""How pods get an incarnation: room, order, number, price and allocations in one transaction."""
