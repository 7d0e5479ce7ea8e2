"""Methods that other packages have, as ready plugins: thin, and without these packages until they are called."""
