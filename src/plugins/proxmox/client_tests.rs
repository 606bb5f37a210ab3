//! The client against a server of our own, for what no fake of the API does: broken answers, trust, lost connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
