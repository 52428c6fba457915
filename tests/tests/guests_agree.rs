//! The guests do what they are said to do, under wasmtime as it comes: whatever fails
//! under a budget later is then the budget's doing.
//!
//! The real guests run on their samples, on bad input, and on generated input. With
//! `WRT_GUESTS_FRESH` naming a folder of fresh builds (`cargo xtask guests --check` sets
//! it), those run as well as the ones that the repository keeps, and must do the same.

use std::path::PathBuf;
use std::sync::LazyLock;

use wasmtime::component::{self, Component};
use wasmtime::{
    Config, Engine, Error, ExternRef, Linker, MemoryType, Module, Result, SharedMemory, Store, StoreLimits,
    StoreLimitsBuilder, Trap,
};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{I32Exit, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p1, p2};
use wrt_memory_guests::bench::BENCHES;
use wrt_memory_guests::{Guest, Kind, REAL, real, wat, wat_names};

const PAGE: usize = 65536;

/// Real guests: programs for WASI.
mod programs {
    use super::*;

    static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);

    enum Code {
        Core(Module),
        Component(Component),
    }

    /// One build of a guest.
    struct Program {
        guest: &'static Guest,
        build: &'static str,
        code: Code,
    }

    /// Every build of every guest, compiled once.
    static PROGRAMS: LazyLock<Vec<Program>> = LazyLock::new(|| {
        let fresh = std::env::var_os("WRT_GUESTS_FRESH").map(PathBuf::from);
        let mut programs = Vec::new();
        for guest in REAL {
            let mut add = |build, wasm: &[u8]| {
                let code = match guest.kind {
                    Kind::Core => Code::Core(Module::new(&ENGINE, wasm).unwrap()),
                    Kind::Component => Code::Component(Component::new(&ENGINE, wasm).unwrap()),
                };
                programs.push(Program { guest, build, code });
            };
            add("kept", guest.wasm);
            if let Some(folder) = &fresh {
                let path = folder.join(format!("{}.wasm", guest.name));
                let wasm = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                add("fresh", &wasm);
            }
        }
        programs
    });

    /// How a run ended, and what it wrote.
    #[derive(PartialEq, Eq)]
    struct Outcome {
        exit: i32,
        stdout: Vec<u8>,
        stderr: String,
    }

    struct Core {
        wasi: WasiP1Ctx,
        limits: StoreLimits,
    }

    struct InComponent {
        wasi: WasiCtx,
        table: ResourceTable,
        limits: StoreLimits,
    }

    impl WasiView for InComponent {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
        }
    }

    impl Program {
        /// Runs to the end. Panics if the guest traps, which none ever should.
        fn run(&self, args: &[&str], input: &[u8], limits: StoreLimits) -> Outcome {
            let Guest { name, .. } = self.guest;
            let stdout = MemoryOutputPipe::new(64 << 20);
            let stderr = MemoryOutputPipe::new(64 << 10);
            let mut wasi = WasiCtxBuilder::new();
            wasi.arg(name)
                .args(args)
                .stdin(MemoryInputPipe::new(input.to_vec()))
                .stdout(stdout.clone())
                .stderr(stderr.clone());
            let result = match &self.code {
                Code::Core(module) => run_core(module, Core { wasi: wasi.build_p1(), limits }),
                Code::Component(component) => {
                    let table = ResourceTable::new();
                    run_component(component, InComponent { wasi: wasi.build(), table, limits })
                }
            };
            let stderr = String::from_utf8(stderr.contents().to_vec()).unwrap();
            let exit = match result {
                Ok(()) => 0,
                Err(error) => match error.downcast_ref::<I32Exit>() {
                    Some(exit) => exit.0,
                    None => panic!("{name} ({}) {args:?}: {error:?}\n{stderr}", self.build),
                },
            };
            Outcome { exit, stdout: stdout.contents().to_vec(), stderr }
        }
    }

    fn run_core(module: &Module, state: Core) -> Result<()> {
        let mut linker = Linker::new(&ENGINE);
        p1::add_to_linker_sync(&mut linker, |state: &mut Core| &mut state.wasi)?;
        let mut store = Store::new(&ENGINE, state);
        store.limiter(|state| &mut state.limits);
        let instance = linker.instantiate(&mut store, module)?;
        instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())
    }

    fn run_component(component: &Component, state: InComponent) -> Result<()> {
        let mut linker = component::Linker::new(&ENGINE);
        p2::add_to_linker_sync(&mut linker)?;
        let mut store = Store::new(&ENGINE, state);
        store.limiter(|state| &mut state.limits);
        let command = Command::instantiate(&mut store, component, &linker)?;
        let result = command.wasi_cli_run().call_run(&mut store)?;
        result.map_err(|()| Error::from(I32Exit(1)))
    }

    /// Runs every build of a guest on the same input. All must do the same.
    fn run_limited(guest: &str, args: &[&str], input: &[u8], limits: fn() -> StoreLimits) -> Outcome {
        let mut builds = PROGRAMS.iter().filter(|program| program.guest.name == guest);
        let kept = builds.next().unwrap().run(args, input, limits());
        for other in builds {
            let outcome = other.run(args, input, limits());
            let what = format!("{guest} {args:?}, kept and {}", other.build);
            assert_eq!(kept.exit, outcome.exit, "{what}: {}{}", kept.stderr, outcome.stderr);
            assert_eq!(kept.stderr, outcome.stderr, "{what}");
            assert!(kept.stdout == outcome.stdout, "{what}: stdout differs");
        }
        kept
    }

    fn run(guest: &str, args: &[&str], input: &[u8]) -> Outcome {
        run_limited(guest, args, input, StoreLimits::default)
    }

    /// The stdout of a run that must succeed.
    fn output(guest: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
        let Outcome { exit, stdout, stderr } = run(guest, args, input);
        assert_eq!((exit, stderr.as_str()), (0, ""), "{guest} {args:?}");
        stdout
    }

    /// The message of a run that must fail, with nothing on stdout.
    fn message(guest: &str, args: &[&str], input: &[u8]) -> String {
        let Outcome { exit, stdout, stderr } = run(guest, args, input);
        assert_eq!((exit, stdout.len()), (1, 0), "{guest} {args:?}: {stderr}");
        stderr
    }

    /// Words without end, the same at every run.
    fn words() -> impl Iterator<Item = String> {
        let mut state = 0x2545_f491u32;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            format!("w{}", state % 5000)
        })
    }

    fn text(lines: usize) -> String {
        let mut words = words();
        let line = |_| words.by_ref().take(9).collect::<Vec<_>>().join(" ") + "\n";
        (0..lines).map(line).collect()
    }

    #[test]
    fn every_sample_gives_the_expected_output() {
        for guest in REAL {
            let found = output(guest.name, guest.args, guest.sample_input);
            assert!(found == guest.expected_output, "{}: {}", guest.name, String::from_utf8_lossy(&found));
        }
    }

    #[test]
    fn bad_input_is_refused_with_a_message_and_without_a_trap() {
        let png = real("image-resize").sample_input;
        let cut_png = &png[..png.len() / 2];
        let gz = real("compress").expected_output;
        let cut_gz = &gz[..gz.len() - 1];
        // A gzip that fails midway has already written what came before.
        assert_eq!(run("compress", &["-d"], cut_gz).exit, 1);
        let deep = "[".repeat(1 << 20);
        let cases: &[(&str, &[&str], &[u8], &str)] = &[
            ("compress", &["-d"], b"plain", "compress: reading stdin: "),
            ("compress", &["-x"], b"", "unknown argument `-x`"),
            ("image-resize", &["4", "4"], b"GIF89a", "not a PNG"),
            ("image-resize", &["4", "4"], b"", "not a PNG"),
            ("image-resize", &["4", "4"], cut_png, "not a PNG"),
            ("image-resize", &["4", "0"], png, "`0` is not a size"),
            ("json-transform", &[], b"{\"a\":", "not JSON: "),
            ("json-transform", &[], b"\xff\xfe", "reading stdin: "),
            ("json-transform", &[], deep.as_bytes(), "recursion limit"),
            ("json-transform", &["--sum", "x"], b"[{\"x\": \"y\"}]", "not a number"),
            ("markdown", &["--title"], b"", "usage: "),
            ("markdown", &[], b"\xff\xfe", "reading stdin: "),
            ("text-index", &[], b"", "usage: "),
            ("text-index", &["-only -excluded"], b"", "no term"),
            ("text-index", &["a"], b"\xff\xfe", "reading stdin: "),
        ];
        for (guest, args, input, expected) in cases {
            let message = message(guest, args, input);
            assert!(message.contains(expected), "{guest} {args:?}: {message}");
            assert!(!message.contains("panicked"), "{guest} {args:?}: {message}");
        }
    }

    #[test]
    fn a_refused_grow_is_a_message_where_the_guest_asks_for_much_at_once() {
        let png = real("image-resize").sample_input;
        let limits = || StoreLimitsBuilder::new().memory_size(16 << 20).build();
        let Outcome { exit, stderr, .. } = run_limited("image-resize", &["8192", "8192"], png, limits);
        assert_eq!(exit, 1);
        assert_eq!(stderr, format!("image-resize: no memory for {} samples\n", 4 * 8192 * 8192));
    }

    #[test]
    fn what_is_compressed_decompresses_to_the_same() {
        let text = text(20_000);
        let noise: Vec<u8> = words().take(50_000).map(|word| word.len() as u8 * 37).collect();
        for (input, level) in [(text.as_bytes(), "-1"), (text.as_bytes(), "-9"), (&noise, "-6")] {
            let packed = output("compress", &[level], input);
            assert!(packed.len() < input.len() / 2, "{level}: {} bytes", packed.len());
            assert!(output("compress", &["-d"], &packed) == input, "{level}");
        }
        assert_eq!(output("compress", &["-d"], &output("compress", &[], b"")), b"");
    }

    #[test]
    fn the_index_finds_what_a_scan_finds() {
        let text = text(5000);
        for word in words().step_by(4001).take(3) {
            let lines: Vec<_> = text
                .lines()
                .enumerate()
                .filter(|(_, line)| line.split(' ').any(|other| other == word))
                .map(|(at, line)| format!("{:>6}  {line}\n", at + 1))
                .collect();
            assert!(!lines.is_empty());
            let expected = format!("{word}: {} of 5000 lines\n{}", lines.len(), lines.concat());
            let found = output("text-index", &[&word], text.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), expected);
        }
    }

    #[test]
    fn json_sums_are_exact() {
        let values: Vec<i64> = (0..5000i64).map(|i| i * i * 1_000_003 - 7).collect();
        let records: Vec<_> =
            values.iter().map(|v| format!(r#"{{"v":{{"n":{v}}},"odd":{}}}"#, v % 2 != 0)).collect();
        let input = format!("[{}]", records.join(","));
        let odd: Vec<_> = values.iter().filter(|v| *v % 2 != 0).collect();
        let expected = format!("{{\"count\":{},\"sum\":{}}}\n", odd.len(), odd.into_iter().sum::<i64>());
        let found = output("json-transform", &["--where", "odd=true", "--sum", "v.n"], input.as_bytes());
        assert_eq!(String::from_utf8(found).unwrap(), expected);
    }

    #[test]
    fn images_have_the_size_asked_for() {
        let png = real("image-resize").sample_input;
        for (width, height) in [(1u32, 1u32), (7, 300), (500, 3)] {
            for filter in ["box", "bilinear"] {
                let args = [width.to_string(), height.to_string()];
                let found = output("image-resize", &[&args[0], &args[1], filter], png);
                let header = [width.to_be_bytes(), height.to_be_bytes()].concat();
                assert_eq!(found[16..24], header, "{args:?} {filter}");
            }
        }
    }

    #[test]
    fn every_paragraph_of_markdown_comes_out() {
        let paragraphs: Vec<_> = words().take(2000).collect();
        let found = output("markdown", &[], paragraphs.join("\n\n").as_bytes());
        let expected: String = paragraphs.iter().map(|word| format!("<p>{word}</p>\n")).collect();
        assert!(String::from_utf8(found).unwrap() == expected);
        output("markdown", &[], "> ".repeat(5000).as_bytes());
        output("markdown", &[], "*_[`".repeat(5000).as_bytes());
    }
}

/// Guests in WAT: each one's behaviour when it gets what it asks for, or no more than
/// the limiter of wasmtime itself lets it have.
mod by_name {
    use super::*;
    use wasmtime::{WasmParams, WasmResults};

    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let mut config = Config::new();
        config
            .wasm_custom_page_sizes(true)
            .wasm_function_references(true)
            .wasm_gc(true)
            .wasm_memory64(true)
            .wasm_multi_memory(true)
            .wasm_threads(true)
            .shared_memory(true);
        Engine::new(&config).unwrap()
    });

    struct State {
        limits: StoreLimits,
        calls: u32,
    }

    fn store(pages: usize) -> Store<State> {
        let limits = StoreLimitsBuilder::new().memory_size(pages * PAGE).build();
        let mut store = Store::new(&ENGINE, State { limits, calls: 0 });
        store.limiter(|state| &mut state.limits);
        store
    }

    struct Running {
        store: Store<State>,
        instance: wasmtime::Instance,
    }

    impl Running {
        /// An instance that may have so many pages in each memory.
        fn try_new(name: &str, pages: usize) -> Result<Self> {
            let module = Module::new(&ENGINE, wat(name))?;
            let mut store = store(pages);
            let mut linker = Linker::new(&ENGINE);
            linker.func_wrap("env", "call", |mut caller: wasmtime::Caller<'_, State>| {
                caller.data_mut().calls += 1;
            })?;
            if module.imports().any(|import| import.name() == "memory") {
                let memory = wasmtime::Memory::new(&mut store, MemoryType::new(1, None))?;
                linker.define(&mut store, "env", "memory", memory)?;
            }
            let instance = linker.instantiate(&mut store, &module)?;
            Ok(Self { store, instance })
        }

        fn new(name: &str, pages: usize) -> Self {
            Self::try_new(name, pages).unwrap_or_else(|error| panic!("{name}: {error:?}"))
        }

        fn try_call<R: WasmResults>(&mut self, name: &str, args: impl WasmParams) -> Result<R> {
            self.instance.get_typed_func(&mut self.store, name)?.call(&mut self.store, args)
        }

        fn call<R: WasmResults>(&mut self, name: &str, args: impl WasmParams) -> R {
            self.try_call(name, args).unwrap_or_else(|error| panic!("{name}: {error:?}"))
        }

        fn size(&mut self) -> i32 {
            self.call("size", ())
        }

        fn grow(&mut self, by: i32) -> i32 {
            self.call("grow", by)
        }
    }

    fn trap<T>(result: Result<T>) -> Option<Trap> {
        result.err()?.downcast_ref().copied()
    }

    #[test]
    fn every_wat_guest_compiles() {
        for name in wat_names() {
            let wasm = wat(name);
            let result = if name.starts_with("component_") {
                Component::new(&ENGINE, wasm).map(drop)
            } else {
                Module::new(&ENGINE, wasm).map(drop)
            };
            result.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
    }

    #[test]
    fn hogs_take_all_there_is() {
        let mut hog = Running::new("hog", 10);
        assert_eq!((hog.grow(2), hog.call::<i32>("run", ()), hog.size()), (1, 7, 10));
        assert_eq!((hog.call::<i32>("run", ()), hog.grow(1), hog.grow(0)), (0, -1, 10));
        let memory = hog.instance.get_memory(&mut hog.store, "memory").unwrap();
        let touched: Vec<u8> = memory.data(&hog.store).iter().step_by(PAGE).copied().collect();
        assert_eq!(touched, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);

        let mut leaker = Running::new("leaker", 3);
        let steps = [(); 4].map(|()| leaker.call::<i32>("step", ()));
        assert_eq!(steps, [1, 2, -1, -1]);
    }

    #[test]
    fn refusals_are_counted() {
        assert_eq!(Running::new("refused_forever", 10).call::<i32>("run", 1000), 1000);
    }

    #[test]
    fn memories_grow_as_their_type_allows() {
        let mut two = Running::new("two_memories", 10);
        assert_eq!((two.call::<i32>("grow0", 2), two.call::<i32>("grow1", 3)), (1, 1));
        assert_eq!((two.call::<i32>("size0", ()), two.call::<i32>("size1", ())), (3, 4));

        let mut wide = Running::new("memory64", 10);
        assert_eq!((wide.call::<i64>("grow", 1i64), wide.call::<i64>("grow", 1i64 << 40)), (1, -1));
        assert_eq!(wide.call::<i64>("size", ()), 2);

        let mut tiny = Running::new("tiny_pages", 10);
        assert_eq!((tiny.size(), tiny.grow(2048), tiny.grow(1), tiny.size()), (2048, 2048, -1, 4096));

        let mut zero = Running::new("zero_memory", 10);
        assert_eq!((zero.size(), zero.grow(1), zero.size()), (0, 0, 1));

        let mut big = Running::new("big_max", 10);
        let memory = big.instance.get_memory(&mut big.store, "memory").unwrap();
        assert_eq!(memory.ty(&big.store).maximum(), Some(65536));
        assert_eq!((big.grow(65535), big.grow(9), big.grow(1)), (-1, 1, -1));

        assert_eq!(Running::new("big_min", 2000).size(), 2000);
        assert!(Running::try_new("big_min", 1999).is_err());
    }

    #[test]
    fn data_is_where_it_should_be() {
        let mut guest = Running::new("data_segment", 1);
        let mut read = |at: i32| guest.call::<i32>("read", at) as u8;
        assert_eq!([15, 16, 17, 18, 19, 20, 21].map(&mut read), *b"\0hello\0");
        guest.call::<()>("write", (16, 72));
        assert_eq!(guest.call::<i32>("read", 16), 72);
        assert_eq!(Running::new("data_segment", 1).call::<i32>("read", 16), 104);
    }

    #[test]
    fn tables_grow() {
        let mut table = Running::new("table_grow", 1);
        assert_eq!((table.grow(5), table.size(), table.grow(1_000_000)), (10, 15, -1));

        // The GC heap that comes with it is limited like a memory.
        let mut table = Running::new("externref_table", 100);
        assert_eq!((table.size(), table.grow(1), table.size()), (4, 4, 5));
        let value = ExternRef::new(&mut table.store, 7u32).unwrap();
        table.call::<()>("set", (4, Some(value)));
        let back: Option<wasmtime::Rooted<ExternRef>> = table.call("get", 4);
        let data = back.unwrap().data(&table.store).unwrap().unwrap();
        assert_eq!(data.downcast_ref(), Some(&7u32));
    }

    #[test]
    fn garbage_stays_until_it_is_let_go_of() {
        let mut guest = Running::new("gc_hog", 100);
        assert_eq!((guest.call::<i32>("run", 100), guest.call::<i32>("run", 50)), (100, 150));
        guest.call::<()>("clear", ());
        assert_eq!(guest.call::<i32>("run", 1), 1);
        // 100 pages hold fewer than 102,400 nodes of 64 bytes.
        assert!(guest.try_call::<i32>("run", 102_400).is_err());
    }

    #[test]
    fn instantiation_fails_where_it_should() {
        assert_eq!(trap(Running::try_new("failed_start", 10)), Some(Trap::UnreachableCodeReached));
        let result = Running::try_new("start_out_of_bounds_data", 10);
        assert_eq!(trap(result), Some(Trap::MemoryOutOfBounds));
    }

    #[test]
    fn shared_memories_are_shared() {
        let mut own = Running::new("shared_memory", 100);
        assert_eq!((own.grow(15), own.grow(1), own.size()), (1, -1, 16));
        assert_eq!((own.call::<i32>("add", 5), own.call::<i32>("add", 1)), (0, 5));

        let module = Module::new(&ENGINE, wat("import_shared_memory")).unwrap();
        let memory = SharedMemory::new(&ENGINE, MemoryType::shared(1, 16)).unwrap();
        let mut guests = [(); 2].map(|()| {
            let mut store = store(100);
            let instance = wasmtime::Instance::new(&mut store, &module, &[memory.clone().into()]).unwrap();
            Running { store, instance }
        });
        assert_eq!((guests[0].call::<i32>("add", 3), guests[1].call::<i32>("add", 4)), (0, 3));
        assert_eq!((guests[1].grow(2), guests[0].size(), guests[0].grow(14)), (1, 3, -1));
    }

    #[test]
    fn imports_are_used() {
        let mut guest = Running::new("import_memory", 4);
        assert_eq!((guest.size(), guest.grow(3), guest.grow(1)), (1, 1, -1));

        let mut guest = Running::new("host_call", 1);
        guest.call::<()>("run", ());
        assert_eq!(guest.store.data().calls, 1);
        guest.call::<()>("run_many", 10);
        assert_eq!(guest.store.data().calls, 11);
    }

    #[test]
    fn what_must_not_end_by_itself_does_not() {
        assert_eq!(trap(Running::new("recursion", 1).try_call::<i32>("run", 0)), Some(Trap::StackOverflow));

        let engine = Engine::new(Config::new().consume_fuel(true)).unwrap();
        let module = Module::new(&engine, wat("spin")).unwrap();
        let mut store = Store::new(&engine, ());
        store.set_fuel(1_000_000).unwrap();
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        assert_eq!(trap(run.call(&mut store, ())), Some(Trap::OutOfFuel));
    }

    #[test]
    fn benchmarks_compute_what_they_should() {
        assert_eq!(Running::new("no_memory", 0).call::<i32>("run", ()), 42);

        for bench in BENCHES {
            let mut guest = Running::new(bench.name, bench.pages);
            let memory = guest.instance.get_memory(&mut guest.store, "memory").unwrap();
            let before = memory.data(&guest.store).to_vec();
            assert_eq!(before.len(), bench.pages * PAGE, "{}", bench.name);
            assert_eq!(guest.call::<i32>("run", ()), bench.checksum(), "{}", bench.name);
            let after = memory.data(&guest.store);
            let written = before.chunks(4096).zip(after.chunks(4096)).filter(|(b, a)| b != a);
            assert_eq!(written.count(), bench.touched, "{}", bench.name);
            assert_ne!(guest.call::<i32>("run", ()), bench.checksum(), "{}: reused", bench.name);
        }

        let (mut x, mut sum, mut words) = (0x9e37_79b9u32, 0u32, vec![0u32; 1 << 18]);
        for _ in 0..100_000 {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            let word = &mut words[(x & 0xf_fffc) as usize / 4];
            *word = word.wrapping_add(x);
            sum = sum.wrapping_add(*word);
        }
        assert_eq!(Running::new("compute", 16).call::<i32>("run", 100_000) as u32, sum);
    }

    #[test]
    fn components_have_the_memories_of_their_parts() {
        let linker = component::Linker::new(&ENGINE);
        let make = |name| {
            let component = Component::new(&ENGINE, wat(name)).unwrap();
            let mut store = store(10);
            let instance = linker.instantiate(&mut store, &component).unwrap();
            (store, instance)
        };

        let (mut store, two) = make("component_two_instances");
        let sizes = two.get_typed_func::<(), (u32,)>(&mut store, "sizes").unwrap();
        let grow = two.get_typed_func::<(u32,), (i32,)>(&mut store, "grow").unwrap();
        assert_eq!(sizes.call(&mut store, ()).unwrap(), (2,));
        assert_eq!(grow.call(&mut store, (3,)).unwrap(), (1,));
        assert_eq!(sizes.call(&mut store, ()).unwrap(), (5,));
        assert_eq!(grow.call(&mut store, (7,)).unwrap(), (-1,));

        let (mut store, hog) = make("component_hog");
        let run = hog.get_typed_func::<(), (u32,)>(&mut store, "run").unwrap();
        let size = hog.get_typed_func::<(), (u32,)>(&mut store, "size").unwrap();
        let grow = hog.get_typed_func::<(u32,), (i32,)>(&mut store, "grow").unwrap();
        assert_eq!(grow.call(&mut store, (2,)).unwrap(), (1,));
        assert_eq!(run.call(&mut store, ()).unwrap(), (7,));
        assert_eq!(size.call(&mut store, ()).unwrap(), (10,));
    }
}
