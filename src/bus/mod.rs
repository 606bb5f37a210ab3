//! The tree on the bus.
