//! What is told, and what is not.
