//! The attribute and derives that make a user's types into tuples, inputs and outputs.
//!
//! Not here: the traits that they implement (`topology-api`). Invariant: what is written is addressed from `::storm::`, and a
//! mistake in the user's type gives one message, at the place of the mistake, in the words of a topology's author.

#![forbid(unsafe_code)]

mod input;
mod output;
mod tuple;

use proc_macro::TokenStream;

/// Makes a struct into a tuple: what a stream carries, what a bolt takes and emits.
///
/// ```ignore
/// #[tuple]
/// #[derive(Debug, PartialEq)]
/// struct Order {
///     shop: Text,
///     cents: u64,
///     #[tuple(serde)]
///     address: Address, // any type that implements serde's Serialize and Deserialize
/// }
/// ```
///
/// It writes `Clone` (unless it is among the derives below the attribute; derives stand below it), and for each field a constant
/// in capitals, `Order::SHOP`, that fields grouping is told by. A tuple can be a field of another tuple, unless it has
/// `#[tuple(serde)]` fields itself.
///
/// A `#[tuple(serde)]` field is opaque: it has no key, and is slower than the types that tuples know. Its type is `Clone`,
/// `Send` and `Sync`, and of a form that postcard can read back (no `#[serde(flatten)]`, `untagged` or skipped fields).
#[proc_macro_attribute]
pub fn tuple(arguments: TokenStream, item: TokenStream) -> TokenStream {
    written(tuple::expand(arguments.into(), item.into()))
}

/// Makes an enum of tuples into a bolt's input: one variant for each type of stream that the bolt subscribes to.
///
/// ```ignore
/// #[derive(Input)]
/// enum ShopEvent {
///     Order(Order),
///     Payment(Payment),
/// }
/// ```
#[proc_macro_derive(Input)]
pub fn input(item: TokenStream) -> TokenStream {
    written(input::expand(item.into()))
}

/// Makes a struct of ports into a component's output: one field for each of its streams, which has the field's name.
///
/// ```ignore
/// #[derive(Output)]
/// struct JoinOut {
///     paid: Port<Paid>,
///     notes: Direct<Note>,
/// }
/// ```
///
/// Its streams' handles are fields of a struct that is written beside it, `JoinOutStreams`.
#[proc_macro_derive(Output)]
pub fn output(item: TokenStream) -> TokenStream {
    written(output::expand(item.into()))
}

fn written(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(|error| error.into_compile_error()).into()
}
