//! Real-server set-up.
