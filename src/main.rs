//! The program's entry: the only file that prints or exits.

fn main() {}
