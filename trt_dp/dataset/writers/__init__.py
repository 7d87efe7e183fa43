"""Writers: one file per format; each writes the answers of a run, in input order, in bounded memory."""
