//! What readers get, and what they miss.
