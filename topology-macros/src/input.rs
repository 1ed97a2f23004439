//! `#[derive(Input)]` on an enum of tuples.
//!
//! Not here: a single tuple as input (`tuple`). Invariant: a tuple's type decides its variant, so no two have the same.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Fields, Result, Type, Variant, parse2};

pub(crate) fn expand(item: TokenStream) -> Result<TokenStream> {
    const FORM: &str = "an input of several tuples is an enum with a variant for each: \
                        `#[derive(Input)] enum Event { Order(Order), Payment(Payment) }`";
    let item: DeriveInput = parse2(item)?;
    let syn::Data::Enum(data) = &item.data else {
        return Err(Error::new_spanned(&item.ident, format!("{FORM}; a single tuple needs #[tuple] only")));
    };
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(&item.generics, "an input has no parameters: each stream carries one type"));
    }
    if data.variants.is_empty() {
        return Err(Error::new_spanned(&item.ident, format!("{FORM}; this one has no variant")));
    }
    let variants = data.variants.iter().map(|variant| Ok((variant, tuple_of(variant)?))).collect::<Result<Vec<_>>>()?;
    refuse_doubles(&variants)?;

    let name = &item.ident;
    let accepts = variants.iter().map(|(Variant { ident, .. }, ty)| {
        quote_spanned! {ty.span()=>
            const _: () = {
                const fn is_tuple<T: ::storm::tuple::Tuple>() {}
                is_tuple::<#ty>()
            };

            #[automatically_derived]
            impl ::storm::bolt::Accepts<#ty> for #name {
                #[inline]
                fn accept(
                    tuple: #ty,
                    _: &mut ::storm::bolt::Arrival<'_>,
                ) -> ::core::result::Result<Self, ::storm::tuple::ConvertError> {
                    ::core::result::Result::Ok(#name::#ident(tuple))
                }
            }
        }
    });
    Ok(quote! {
        #[automatically_derived]
        impl ::storm::bolt::Input for #name {
            type Mode = ::storm::bolt::Auto;
        }
        #(#accepts)*
    })
}

fn tuple_of(variant: &Variant) -> Result<&Type> {
    match &variant.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(&fields.unnamed[0].ty),
        _ => {
            let name = &variant.ident;
            let message = format!("a variant of an input holds one tuple: `{name}({name})`");
            Err(Error::new_spanned(variant, message))
        }
    }
}

fn refuse_doubles(variants: &[(&Variant, &Type)]) -> Result<()> {
    let mut seen = HashMap::new();
    let mut errors: Option<Error> = None;
    for (variant, ty) in variants {
        let written = ty.to_token_stream().to_string().replace(' ', "");
        if let Some(first) = seen.insert(written.clone(), &variant.ident) {
            let message = format!(
                "two variants, `{first}` and `{}`, hold `{written}`: the stream's type decides the variant, so each type stands \
                 once; keep one of them, or let the streams carry two tuple types",
                variant.ident,
            );
            let error = Error::new_spanned(ty, message);
            match &mut errors {
                Some(errors) => errors.combine(error),
                None => errors = Some(error),
            }
        }
    }
    errors.map_or(Ok(()), Err)
}
