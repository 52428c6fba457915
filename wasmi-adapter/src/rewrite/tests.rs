//! What a rewritten module is, by parsing it again, and by its bytes.

use alloc::vec;

use wasmparser::{ExternalKind, Validator, WasmFeatures};

use super::*;

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn rewritten(text: &str) -> (Vec<u8>, Vec<Declared>) {
    let Rewritten { wasm, memories } = rewrite(&wat(text), 5).unwrap();
    (wasm.expect("it defines a memory"), memories)
}

/// Memories imported from here, by number.
fn imported(wasm: &[u8]) -> Vec<(u32, wasmparser::MemoryType)> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.unwrap() {
            Payload::ImportSection(imports) => {
                for import in imports.into_iter().map(Result::unwrap) {
                    if let (MODULE, TypeRef::Memory(ty)) = (import.module, import.ty) {
                        found.push((import.name.parse().unwrap(), ty));
                    }
                }
            }
            Payload::MemorySection(_) => panic!("a memory is still defined"),
            _ => {}
        }
    }
    found
}

fn declared(minimum: u64, maximum: Option<u64>, page_log2: u8) -> Declared {
    Declared { minimum, maximum, page_log2 }
}

#[test]
fn a_module_without_memories_is_left_alone() {
    for text in ["(module)", r#"(module (import "a" "b" (memory 1)) (func))"#] {
        assert!(rewrite(&wat(text), 0).unwrap().wasm.is_none());
    }
}

#[test]
fn the_result_is_what_one_would_have_written_by_hand() {
    let rewritten = |text: &str, number| rewrite(&wat(text), number).unwrap().wasm.unwrap();
    let import = |number: u32, ty: &str| format!("(import \"\\01wrt-memory\" \"{number}\" (memory {ty}))");
    // Without imports or types, with types only, with imports.
    assert_eq!(rewritten("(module (memory 1))", 0), wat(&format!("(module {})", import(0, "1"))));
    let body = r#"(func (result i32) (i32.load (i32.const 0)))"#;
    assert_eq!(
        rewritten(&format!("(module {body} (memory 1 7) (memory 0 65536))"), 9),
        wat(&format!("(module {} {} {body})", import(9, "1 7"), import(10, "0 65536"))),
    );
    let before = r#"(import "a" "f" (func)) (import "a" "m" (memory 3))"#;
    assert_eq!(
        rewritten(&format!(r#"(module {before} (memory 2 300 (pagesize 1)) (export "m" (memory 1)))"#), 128),
        wat(&format!(r#"(module {before} {} (export "m" (memory 1)))"#, import(128, "2 300 (pagesize 1)"))),
    );
}

#[test]
fn types_numbers_and_order_are_kept() {
    let (wasm, memories) = rewritten(
        r#"(module (import "a" "b" (memory 4)) (memory 1) (memory 2 3) (memory 5 6 (pagesize 1))
            (data (memory 2) (i32.const 0) "x") (export "e" (memory 3)))"#,
    );
    assert_eq!(memories, [declared(1, None, 16), declared(2, Some(3), 16), declared(5, Some(6), 0)]);
    let imported = imported(&wasm);
    assert_eq!(imported.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [5, 6, 7]);
    for ((_, ty), declared) in imported.iter().zip(&memories) {
        assert_eq!((ty.initial, ty.maximum), (declared.minimum, declared.maximum));
        assert_eq!(ty.page_size_log2.unwrap_or(16), u32::from(declared.page_log2));
    }
    Validator::new_with_features(WasmFeatures::all()).validate_all(&wasm).unwrap();
}

#[test]
fn an_empty_memory_section_goes_too() {
    let wasm = vec![0, b'a', b's', b'm', 1, 0, 0, 0, 5, 1, 0];
    let Rewritten { wasm, memories } = rewrite(&wasm, 0).unwrap();
    assert_eq!((imported(&wasm.unwrap()).len(), memories.len()), (0, 0));
}

#[test]
fn sections_with_lengths_that_are_longer_than_they_need_be_are_found() {
    // A type section, an import section and a memory section, each length of five bytes, custom ones between.
    let custom = [0, 0x82, 0x80, 0x80, 0x80, 0, 1, b'c'];
    let wasm = [
        &[0, b'a', b's', b'm', 1, 0, 0, 0][..],
        &custom,
        &[1, 0x84, 0x80, 0x80, 0x80, 0, 1, 0x60, 0, 0],
        &custom,
        &[2, 0x87, 0x80, 0x80, 0x80, 0, 1, 1, b'a', 1, b'b', 0, 0],
        &custom,
        &[5, 0x83, 0x80, 0x80, 0x80, 0, 1, 0, 1],
        &custom,
        &[7, 5, 1, 1, b'm', 2, 0],
    ]
    .concat();
    let wasm = rewrite(&wasm, 0).unwrap().wasm.unwrap();
    assert_eq!(imported(&wasm).len(), 1);
    Validator::new().validate_all(&wasm).unwrap();
    let exports = Parser::new(0).parse_all(&wasm).find_map(|payload| match payload.unwrap() {
        Payload::ExportSection(exports) => exports.into_iter().next().map(Result::unwrap),
        _ => None,
    });
    assert!(matches!(exports.unwrap().kind, ExternalKind::Memory));
    let sections =
        Parser::new(0).parse_all(&wasm).filter(|payload| payload.as_ref().unwrap().as_section().is_some());
    assert_eq!(sections.count(), 7, "nothing else is gone, and nothing is there twice");
}

#[test]
fn what_cannot_be_taken_is_refused_with_a_reason() {
    for (text, reason) in [
        ("(module (memory i64 1))", "64-bit"),
        (r#"(module (import "a" "b" (memory i64 1)))"#, "64-bit"),
        ("(module (memory 1 1 shared))", "shared"),
        (r#"(module (import "a" "b" (memory 1 1 shared)))"#, "shared"),
        ("(module (import \"\\01wrt-memory\" \"0\" (memory 1)) (memory 1))", "reserved"),
        ("(module (memory 1 2 (pagesize 2)))", "type"),
    ] {
        let mut wasm = wat(text.replace("(pagesize 2)", "(pagesize 1)").as_str());
        if text.contains("pagesize 2") {
            // Not in the text format's reach: the exponent is the last byte of the module's only section.
            *wasm.last_mut().unwrap() = 3;
        }
        let error = rewrite(&wasm, 0).err().unwrap_or_else(|| panic!("{text} was taken"));
        assert!(matches!(error, Error::Unsupported { what } if what.contains(reason)), "{text}: {error}");
    }
    for bytes in [&b""[..], b"(module)", b"\0asm\x0d\0\x01\0"] {
        let _ = rewrite(bytes, 0);
    }
}
