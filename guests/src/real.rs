//! Programs built from Rust for WASI. Only what is in `guests/bin` and `guests/samples`
//! is known here; what they do is checked by running them, in `tests/tests/guests_agree.rs`.

/// What a binary is, and so how it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A core module, a WASI preview 1 command: call `_start`.
    Core,
    /// A component, a WASI 0.2 command: call `wasi:cli/run`.
    Component,
}

/// A program that reads stdin and writes stdout, and a sample of its use.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// Its name: that of its crate in `guests/rust` and of its file in `guests/bin`.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// What its binary is.
    pub kind: Kind,
    /// Its binary.
    pub wasm: &'static [u8],
    /// The arguments of the sample, after the program's own name.
    pub args: &'static [&'static str],
    /// The stdin of the sample.
    pub sample_input: &'static [u8],
    /// The stdout that the sample must give, with exit code 0.
    pub expected_output: &'static [u8],
}

macro_rules! wasm {
    ($name:literal) => {
        include_bytes!(concat!("../bin/", $name, ".wasm"))
    };
}

macro_rules! sample {
    ($file:literal) => {
        include_bytes!(concat!("../samples/", $file))
    };
}

/// All of them, by name.
pub static REAL: &[Guest] = &[
    Guest {
        name: "compress",
        about: "gzip and gunzip, in constant memory",
        kind: Kind::Core,
        wasm: wasm!("compress"),
        args: &["-9"],
        sample_input: sample!("text-index.input.txt"),
        expected_output: sample!("compress.expected.gz"),
    },
    Guest {
        name: "image-resize",
        about: "resizes a PNG, decoded whole in memory",
        kind: Kind::Core,
        wasm: wasm!("image-resize"),
        args: &["32", "20", "bilinear"],
        sample_input: sample!("image-resize.input.png"),
        expected_output: sample!("image-resize.expected.png"),
    },
    Guest {
        name: "json-transform",
        about: "selects, picks and sums JSON records",
        kind: Kind::Core,
        wasm: wasm!("json-transform"),
        args: &["--where", "city=Bergen", "--where", "ok=true", "--pick", "id,reading.rain_mm", "--pretty"],
        sample_input: sample!("json-transform.input.json"),
        expected_output: sample!("json-transform.expected.json"),
    },
    Guest {
        name: "markdown",
        about: "Markdown to HTML, as a component",
        kind: Kind::Component,
        wasm: wasm!("markdown"),
        args: &["--page", "Linear memory"],
        sample_input: sample!("markdown.input.md"),
        expected_output: sample!("markdown.expected.html"),
    },
    Guest {
        name: "text-index",
        about: "answers queries from an inverted index of the lines of a text",
        kind: Kind::Core,
        wasm: wasm!("text-index"),
        args: &["fair -every", "so long", "summer*", "winter"],
        sample_input: sample!("text-index.input.txt"),
        expected_output: sample!("text-index.expected.txt"),
    },
];

/// One of [`REAL`].
///
/// # Panics
///
/// If there is none of that name; the message lists the names there are.
#[must_use]
pub fn real(name: &str) -> &'static Guest {
    REAL.iter().find(|guest| guest.name == name).unwrap_or_else(|| {
        let names: Vec<_> = REAL.iter().map(|guest| guest.name).collect();
        panic!("no real guest `{name}`; there are: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use wasmparser::{Parser, Validator, WasmFeatures};

    #[test]
    fn every_binary_is_valid_small_and_of_its_kind() {
        for guest in REAL {
            let name = guest.name;
            Validator::new_with_features(WasmFeatures::all())
                .validate_all(guest.wasm)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Parser::is_component(guest.wasm), guest.kind == Kind::Component, "{name}");
            assert!(guest.wasm.len() < 400 << 10, "{name}: {} bytes", guest.wasm.len());
        }
    }

    #[test]
    fn every_binary_is_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/bin");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let names: BTreeSet<String> = REAL.iter().map(|guest| guest.name.to_owned()).collect();
        assert_eq!(files, names);
    }

    #[test]
    #[should_panic(expected = "no real guest `pig`; there are: compress, ")]
    fn an_unknown_name_lists_the_known_ones() {
        let _ = real("pig");
    }
}
