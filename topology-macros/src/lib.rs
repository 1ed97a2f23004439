//! The attribute and derives that make a user's types into tuples, inputs and outputs.
