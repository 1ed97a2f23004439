//! `#[derive(Output)]` on a struct of ports.
//!
//! Not here: a single stream as output (`tuple`). Invariant: ports open, are declared and are visited in the order in which
//! they are written.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Fields, Result, Type, parse2};

pub(crate) fn expand(item: TokenStream) -> Result<TokenStream> {
    const FORM: &str = "an output of several streams is a struct of ports: \
                        `#[derive(Output)] struct JoinOut { paid: Port<Paid>, notes: Direct<Note> }`";
    let item: DeriveInput = parse2(item)?;
    let fields = match &item.data {
        syn::Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if !fields.named.is_empty() => &fields.named,
            _ => return Err(Error::new_spanned(&item.ident, format!("{FORM}; the fields' names name the streams"))),
        },
        _ => return Err(Error::new_spanned(&item.ident, FORM)),
    };
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "an output has no parameters: each stream carries one type"));
    }

    let (name, vis) = (&item.ident, &item.vis);
    let streams = format_ident!("{name}Streams");
    let docs = format!("The streams of [`{name}`], for subscribers.");
    let mut handles = Vec::new();
    let mut opens = Vec::new();
    let mut declares = Vec::new();
    let mut visits = Vec::new();
    for field in fields {
        let Some(ident) = &field.ident else { continue };
        let (ty, span) = (&field.ty, field.ty.span());
        let stream = ident.to_string().trim_start_matches("r#").to_owned();
        let stream_docs = format!("The stream `{stream}`.");
        let Some(handle) = handle_of(ty) else {
            let message = format!("{FORM}; this field is neither a `Port<…>` nor a `Direct<…>`");
            return Err(Error::new_spanned(ty, message));
        };
        let port = quote_spanned!(span=> <#ty as ::storm::output::PortField>);
        handles.push(quote_spanned!(span=> #[doc = #stream_docs] #vis #ident: #handle));
        opens.push(quote_spanned!(span=> #ident: #port::open(wires, #stream)));
        declares.push(quote_spanned!(span=> #ident: #port::declare(declare, #stream)));
        visits.push(quote_spanned!(span=> #port::visit(&mut self.#ident, visitor)));
    }
    Ok(quote! {
        #[doc = #docs]
        #[allow(dead_code)]
        #vis struct #streams {
            #(#handles),*
        }

        #[automatically_derived]
        impl ::storm::output::Ports for #name {
            #[inline]
            fn visit<V: ::storm::output::PortVisitor>(&mut self, visitor: &mut V) {
                #(#visits;)*
            }
        }

        #[automatically_derived]
        impl ::storm::output::Output for #name {
            type Ports = #name;
            type Streams = #streams;

            fn open(wires: &mut ::storm::output::Wires<'_>) -> Self::Ports {
                #name { #(#opens),* }
            }

            fn declare(declare: &mut ::storm::output::Declare<'_>) -> Self::Streams {
                #streams { #(#declares),* }
            }
        }
    })
}

/// The type of a port's handle. Looks at the port's name only: for what is no port, the compiler's own answer would be one
/// error for each use of the field.
fn handle_of(ty: &Type) -> Option<TokenStream> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last()?;
    let handle = match segment.ident.to_string().as_str() {
        "Port" => quote_spanned!(ty.span()=> ::storm::topology::Stream),
        "Direct" => quote_spanned!(ty.span()=> ::storm::topology::DirectStream),
        _ => return None,
    };
    let arguments = &segment.arguments;
    Some(quote!(#handle #arguments))
}
