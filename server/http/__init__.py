"""HTTP around every route: connections, bodies, keys, origins, errors, traces."""
