//! `#[tuple]` on a struct.
//!
//! Not here: enums of tuples (`input`). Invariant: all that is written about a field is spanned on the field's type and calls
//! `Field` alone, so that the compiler's messages about a type that is none are equal and shown once.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Fields, Ident, Item, ItemStruct, Result, Type, Visibility, parse2};

/// A field, as the written code needs it.
struct Field {
    ident: Ident,
    name: String,
    ty: Type,
    vis: Visibility,
    index: usize,
    /// `#[tuple(serde)]`
    opaque: bool,
}

/// The longest name of a field. Below 128, the lengths of names sort as the bytes that they are written with.
const NAME_BYTES: usize = 96;

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "#[tuple] takes no arguments; #[tuple(serde)] stands above a field"));
    }
    let mut item = the_struct(item)?;
    let fields = fields_of(&mut item)?;
    let listed_clone = derives(&item.attrs, "Clone");

    let clone = if listed_clone { TokenStream::new() } else { clone_impl(&item.ident, &fields) };
    let tuple = tuple_impl(&item.ident, &fields);
    let field =
        if fields.iter().any(|field| field.opaque) { TokenStream::new() } else { field_impl(&item.ident, &fields) };
    let tokens = token_constants(&item.ident, &fields);
    let wiring = wiring_impls(&item.ident);
    Ok(quote! {
        #item
        #clone
        #tuple
        #field
        #tokens
        #wiring
    })
}

fn the_struct(item: TokenStream) -> Result<ItemStruct> {
    const FORM: &str = "a tuple is a struct with named fields: `#[tuple] struct Word { word: Text }`";
    let item = match parse2(item)? {
        Item::Struct(item) => item,
        Item::Enum(item) => {
            let message = format!(
                "{FORM}; for a bolt that takes several tuples, put #[derive(Input)] on an enum of them, and a field can be \
                 an enum by #[tuple(serde)]"
            );
            return Err(Error::new_spanned(item.enum_token, message));
        }
        other => return Err(Error::new_spanned(other, FORM)),
    };
    if let Fields::Unnamed(fields) = &item.fields {
        return Err(Error::new_spanned(fields, format!("{FORM}; give each field a name")));
    }
    if !item.generics.params.is_empty() {
        let message = "a tuple has no parameters: a stream carries one type; write a struct for each";
        return Err(Error::new_spanned(&item.generics, message));
    }
    Ok(item)
}

/// The fields; takes `#[tuple(serde)]` off them.
fn fields_of(item: &mut ItemStruct) -> Result<Vec<Field>> {
    let owner = item.ident.clone();
    let fields = item.fields.iter_mut().enumerate().map(|(index, field)| {
        let ident = field.ident.clone().ok_or_else(|| Error::new(field.ty.span(), "a tuple's fields have names"))?;
        let opaque = take_serde(&mut field.attrs)?;
        if !opaque && mentions(field.ty.to_token_stream(), &owner) {
            let message =
                format!("`{owner}` contains itself; a tuple's depth is fixed, put #[tuple(serde)] above this field");
            return Err(Error::new_spanned(&field.ty, message));
        }
        let name = ident.to_string().trim_start_matches("r#").to_owned();
        if !name.is_ascii() || name.len() > NAME_BYTES || name.starts_with("__") {
            let message = format!(
                "a field's name consists of a-z, 0-9 and _, does not begin with __, and has at most {NAME_BYTES} characters: \
                 other languages and the graph use it too"
            );
            return Err(Error::new(ident.span(), message));
        }
        Ok(Field { ident, name, ty: field.ty.clone(), vis: field.vis.clone(), index, opaque })
    });
    fields.collect()
}

/// Whether a type's tokens contain the tuple's own name, other than as the end of a longer path.
fn mentions(ty: TokenStream, name: &Ident) -> bool {
    let mut after_colon = false;
    ty.into_iter().any(|token| {
        let found = match &token {
            TokenTree::Group(group) => mentions(group.stream(), name),
            TokenTree::Ident(ident) => ident == "Self" || ident == name && !after_colon,
            _ => false,
        };
        after_colon = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ':');
        found
    })
}

fn take_serde(attributes: &mut Vec<Attribute>) -> Result<bool> {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("tuple")) {
        let argument: Option<Ident> = attribute.parse_args().ok();
        if argument.is_none_or(|argument| argument != "serde") {
            return Err(Error::new_spanned(attribute, "the only attribute of a field is #[tuple(serde)]"));
        }
        found = true;
    }
    attributes.retain(|attribute| !attribute.path().is_ident("tuple"));
    Ok(found)
}

fn derives(attributes: &[Attribute], wanted: &str) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        // What is wrong with a derive is the compiler's to say.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|segment| segment.ident == wanted);
            Ok(())
        });
    }
    found
}

impl Field {
    fn span(&self) -> Span {
        self.ty.span()
    }

    /// A call of one of `Field`'s functions, or of its like for opaque fields.
    fn call(&self, known: &str, arguments: TokenStream) -> TokenStream {
        let (ty, function) = (&self.ty, Ident::new(known, self.span()));
        if self.opaque {
            quote_spanned!(self.span()=> ::storm::tuple::opaque::#function::<#ty>(#arguments))
        } else {
            quote_spanned!(self.span()=> <#ty as ::storm::tuple::Field>::#function(#arguments))
        }
    }

    fn has_heap(&self) -> TokenStream {
        let ty = &self.ty;
        if self.opaque { quote!(true) } else { quote_spanned!(self.span()=> <#ty as ::storm::tuple::Field>::HAS_HEAP) }
    }

    fn reference(&self) -> TokenStream {
        let ident = &self.ident;
        quote_spanned!(self.span()=> &self.#ident)
    }
}

fn clone_impl(name: &Ident, fields: &[Field]) -> TokenStream {
    let clones = fields.iter().map(|field| {
        let (ident, clone) = (&field.ident, field.call("duplicate", field.reference()));
        quote!(#ident: #clone)
    });
    quote! {
        #[automatically_derived]
        impl ::core::clone::Clone for #name {
            #[inline]
            fn clone(&self) -> Self {
                #name { #(#clones),* }
            }
        }
    }
}

fn tuple_impl(name: &Ident, fields: &[Field]) -> TokenStream {
    let text = name.to_string();
    let count = fields.len();
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let opaque = fields.iter().filter(|field| field.opaque).map(|field| &field.name);
    let has_heap = fields.iter().map(Field::has_heap);
    let heap_size = fields.iter().map(|field| field.call("heap_size", field.reference()));
    let encode = fields.iter().map(|field| {
        let reference = field.reference();
        field.call("encode", quote!(#reference, out))
    });
    let decode = fields.iter().map(|field| {
        let (ident, decode) = (&field.ident, field.call("decode", quote!(input)));
        let label = &field.name;
        quote! {
            #ident: match #decode {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => return ::core::result::Result::Err(error.in_field(#text, #label)),
            }
        }
    });
    let into_value = fields.iter().map(|field| {
        let ident = &field.ident;
        field.call("into_value", if field.opaque { field.reference() } else { quote!(self.#ident) })
    });
    let slots: Vec<Ident> = fields.iter().map(|field| format_ident!("value_{}", field.index)).collect();
    let from_value = fields.iter().zip(&slots).map(|(field, slot)| {
        let (ident, label, from) = (&field.ident, &field.name, field.call("from_value", quote!(#slot)));
        quote!(#ident: #from.map_err(|error| error.in_field(#text, #label))?)
    });
    let write_key = fields.iter().filter(|field| !field.opaque).map(|field| {
        let (index, reference) = (field.index, field.reference());
        let write = field.call("write_field_key", quote!(#reference, key));
        quote!(#index => #write,)
    });
    let hash_key = fields.iter().filter(|field| !field.opaque).map(|field| {
        let (index, reference) = (field.index, field.reference());
        let hash = field.call("hash_field_key", quote!(#reference, scratch));
        quote!(#index => #hash,)
    });
    quote! {
        #[automatically_derived]
        impl ::storm::tuple::Tuple for #name {
            const NAME: &'static str = #text;
            const FIELDS: &'static [&'static str] = &[#(#names),*];
            const OPAQUE_FIELDS: &'static [&'static str] = &[#(#opaque),*];
            const HAS_HEAP: bool = false #(|| #has_heap)*;

            #[inline]
            fn heap_size(&self) -> usize {
                0 #(+ #heap_size)*
            }

            #[inline]
            #[allow(unused_variables)]
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                #(#encode;)*
            }

            #[inline]
            #[allow(unused_variables)]
            fn decode(input: &mut &[u8]) -> ::core::result::Result<Self, ::storm::tuple::DecodeError> {
                ::core::result::Result::Ok(#name { #(#decode),* })
            }

            fn into_values(self) -> ::storm::tuple::Values {
                ::storm::tuple::Values::from(::std::vec![#(#into_value),*])
            }

            fn from_values(
                values: ::storm::tuple::Values,
            ) -> ::core::result::Result<Self, ::storm::tuple::ConvertError> {
                let [#(#slots),*] =
                    values.into_fields::<#count>(#text, <Self as ::storm::tuple::Tuple>::FIELDS)?;
                ::core::result::Result::Ok(#name { #(#from_value),* })
            }

            #[inline]
            fn write_key(&self, field: usize, key: &mut ::storm::tuple::KeyBytes) {
                match field {
                    #(#write_key)*
                    _ => key.null(),
                }
            }

            #[inline]
            fn hash_key(&self, field: usize, scratch: &mut ::storm::tuple::KeyBytes) -> u64 {
                match field {
                    #(#hash_key)*
                    _ => ::storm::tuple::nested::hash_of_null(scratch),
                }
            }
        }
    }
}

/// A tuple within a tuple: a byte and its fields on the wire, a map by field names as a value and as a key.
fn field_impl(name: &Ident, fields: &[Field]) -> TokenStream {
    let count = fields.len();
    // Canonical bytes of a text are its length and the text: so are the entries of a map sorted.
    let mut sorted: Vec<&Field> = fields.iter().collect();
    sorted.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    let write_key = sorted.iter().map(|field| {
        let (label, reference) = (&field.name, field.reference());
        let write = field.call("write_field_key", quote!(#reference, key));
        quote!(key.text(#label); #write;)
    });
    quote! {
        #[automatically_derived]
        impl ::storm::tuple::Key for #name {
            #[inline]
            fn write_key(&self, key: &mut ::storm::tuple::KeyBytes) {
                key.begin_map(#count);
                #(#write_key)*
            }
        }

        #[automatically_derived]
        impl ::storm::tuple::Field for #name {
            const HAS_HEAP: bool = <Self as ::storm::tuple::Tuple>::HAS_HEAP;

            #[inline]
            fn heap_size(&self) -> usize {
                <Self as ::storm::tuple::Tuple>::heap_size(self)
            }

            #[inline]
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                ::storm::tuple::nested::encode(self, out)
            }

            #[inline]
            fn decode(input: &mut &[u8]) -> ::core::result::Result<Self, ::storm::tuple::DecodeError> {
                ::storm::tuple::nested::decode(input)
            }

            fn into_value(self) -> ::storm::tuple::Value {
                ::storm::tuple::nested::into_value(self)
            }

            fn from_value(
                value: ::storm::tuple::Value,
            ) -> ::core::result::Result<Self, ::storm::tuple::ConvertError> {
                ::storm::tuple::nested::from_value(value)
            }
        }
    }
}

fn token_constants(name: &Ident, fields: &[Field]) -> TokenStream {
    let constants = fields.iter().map(|field| {
        let Field { ident, name: label, ty, vis, index, .. } = field;
        let constant = Ident::new(&label.to_uppercase(), ident.span());
        let docs = format!("The field `{label}`, for grouping by it.");
        quote! {
            #[doc = #docs]
            #[allow(dead_code, non_upper_case_globals)]
            #vis const #constant: ::storm::tuple::FieldOf<#name, #ty> =
                ::storm::tuple::FieldOf::new(#label, #index, |tuple| &tuple.#ident);
        }
    });
    quote! {
        impl #name {
            #(#constants)*
        }
    }
}

fn wiring_impls(name: &Ident) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl ::storm::bolt::Input for #name {
            type Mode = ::storm::bolt::Auto;
        }

        #[automatically_derived]
        impl ::storm::bolt::Accepts<#name> for #name {
            #[inline]
            fn accept(
                tuple: #name,
                _: &mut ::storm::bolt::Arrival<'_>,
            ) -> ::core::result::Result<Self, ::storm::tuple::ConvertError> {
                ::core::result::Result::Ok(tuple)
            }
        }

        #[automatically_derived]
        impl ::storm::bolt::Accepts<::storm::tuple::Values> for #name {
            fn accept(
                values: ::storm::tuple::Values,
                _: &mut ::storm::bolt::Arrival<'_>,
            ) -> ::core::result::Result<Self, ::storm::tuple::ConvertError> {
                <#name as ::storm::tuple::Tuple>::from_values(values)
            }
        }

        #[automatically_derived]
        impl ::storm::output::Output for #name {
            type Ports = ::storm::output::Port<#name>;
            type Streams = ::storm::topology::Stream<#name>;

            fn open(wires: &mut ::storm::output::Wires<'_>) -> Self::Ports {
                <::storm::output::Port<#name> as ::storm::output::PortField>::open(wires, "default")
            }

            fn declare(declare: &mut ::storm::output::Declare<'_>) -> Self::Streams {
                <::storm::output::Port<#name> as ::storm::output::PortField>::declare(declare, "default")
            }
        }
    }
}
