//! Random operations against plain numbers.
