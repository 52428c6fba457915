//! What `word` asks of the manager's module of that name: the word of 64-bit hosts.

/// The integer a budget is packed into.
pub(crate) type Bits = u128;
