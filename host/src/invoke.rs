//! Calls of exported functions: arguments from text, by the function's type; results to text.

use std::str::FromStr;

use wasmtime::component::{Type, Val as ComponentVal, types::ComponentFunc};

/// A function to call, with its arguments.
#[derive(Clone, Debug)]
pub struct Call<V> {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: Vec<V>,
    /// How many results it has.
    pub results: usize,
}

/// Types of numbers that core functions take.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `i32`.
    I32,
    /// `i64`.
    I64,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
}

/// A number for a core function.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// `i32`.
    I32(i32),
    /// `i64`.
    I64(i64),
    /// `f32`.
    F32(f32),
    /// `f64`.
    F64(f64),
}

/// A call of a core function. Its parameters: how they are written, and what they are where that is a number.
///
/// # Errors
/// What is wrong with the arguments, and what the function takes.
pub fn core<V>(
    name: &str,
    params: impl Iterator<Item = (String, Option<Kind>)>,
    results: usize,
    args: &[String],
    value: impl Fn(Number) -> V,
) -> Result<Call<V>, String> {
    let parse = |kind: &Option<Kind>, text: &str| {
        let number = match (*kind)? {
            // Negative, or up to 2^32: wasm's integers have no sign of their own.
            Kind::I32 => {
                number::<i32>(text).or_else(|| Some(number::<u32>(text)?.cast_signed())).map(Number::I32)
            }
            Kind::I64 => {
                number::<i64>(text).or_else(|| Some(number::<u64>(text)?.cast_signed())).map(Number::I64)
            }
            Kind::F32 => number(text).map(Number::F32),
            Kind::F64 => number(text).map(Number::F64),
        };
        number.map(&value)
    };
    let params: Vec<_> = params.collect();
    Ok(Call { name: name.to_owned(), args: arguments(name, &params, args, parse)?, results })
}

/// A call of a component's function.
///
/// # Errors
/// What is wrong with the arguments, and what the function takes.
pub fn component(name: &str, ty: &ComponentFunc, args: &[String]) -> Result<Call<ComponentVal>, String> {
    let parse = |ty: &Type, text: &str| match ty {
        Type::Bool => number(text).map(ComponentVal::Bool),
        Type::S8 => number(text).map(ComponentVal::S8),
        Type::U8 => number(text).map(ComponentVal::U8),
        Type::S16 => number(text).map(ComponentVal::S16),
        Type::U16 => number(text).map(ComponentVal::U16),
        Type::S32 => number(text).map(ComponentVal::S32),
        Type::U32 => number(text).map(ComponentVal::U32),
        Type::S64 => number(text).map(ComponentVal::S64),
        Type::U64 => number(text).map(ComponentVal::U64),
        Type::Float32 => number(text).map(ComponentVal::Float32),
        Type::Float64 => number(text).map(ComponentVal::Float64),
        Type::Char => number(text).map(ComponentVal::Char),
        Type::String => Some(ComponentVal::String(text.to_owned())),
        _ => None,
    };
    let params: Vec<_> =
        ty.params().map(|(name, ty)| (format!("{name}: {ty:?}").to_lowercase(), ty)).collect();
    Ok(Call {
        name: name.to_owned(),
        args: arguments(name, &params, args, parse)?,
        results: ty.results().len(),
    })
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn arguments<T, V>(
    name: &str,
    params: &[(String, T)],
    args: &[String],
    parse: impl Fn(&T, &str) -> Option<V>,
) -> Result<Vec<V>, String> {
    let takes = || {
        let types: Vec<_> = params.iter().map(|(shown, _)| shown.as_str()).collect();
        format!("`{name}` takes ({})", types.join(", "))
    };
    if params.len() != args.len() {
        let given = match args.len() {
            0 => "none was given after `--`".to_owned(),
            count => format!("after `--` there came {count}: {}", args.join(" ")),
        };
        return Err(format!("{}, and {given}", takes()));
    }
    params
        .iter()
        .zip(args)
        .map(|((shown, ty), text)| {
            parse(ty, text).ok_or_else(|| format!("{}, and `{text}` cannot be passed as {shown}", takes()))
        })
        .collect()
}

/// Results of components as text, at most this long.
pub fn show_component(values: &[ComponentVal]) -> String {
    const MOST: usize = 80;
    let shown: Vec<_> = values
        .iter()
        .map(|value| match value {
            ComponentVal::S32(value) => value.to_string(),
            ComponentVal::U32(value) => value.to_string(),
            ComponentVal::S64(value) => value.to_string(),
            ComponentVal::U64(value) => value.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    let mut shown = shown.join(", ");
    if shown.len() > MOST {
        shown.truncate(shown.floor_char_boundary(MOST));
        shown.push('…');
    }
    shown
}
