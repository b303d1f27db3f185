//! Which hooks run, in which order, and within which bounds.
