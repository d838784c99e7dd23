"""What nodes hold and the books do not know, taken into the books from the nodes' inventories."""
