"""Speed of baa, compared with the minimum work that each part needs and with other software."""
