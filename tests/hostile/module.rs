//! Plugins written by hand, below the SDK: each part can be made wrong.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A core module for the world `plugin-with-all-hooks`. By itself it is a
/// well-behaved plugin that allows each `fchmodat` and sees its result and each
/// exec; bodies are in the text format.
#[derive(Clone)]
pub struct Module {
    pub start: String,
    pub describe: String,
    pub configure: String,
    pub check: String,
    pub after_check: String,
    pub exit: String,
    pub process: String,
    pub realloc: String,
    /// Limits of the memory, in pages.
    pub memory: String,
    /// More fields of the module, after its imports.
    pub more: String,
    pub imports: String,
    /// Bytes over those of the well-behaved module.
    pub data: Vec<(u32, Vec<u8>)>,
}

/// Where its texts and records are.
pub const NAME: u32 = 1024;
pub const SCHEMA: u32 = 65536;
pub const DESCRIPTION: u32 = 2048;
pub const CONFIGURED: u32 = 3072;
pub const RULES: u32 = 4096;
pub const VERDICT: u32 = 5120;
pub const NO_ALERTS: u32 = 5632;
/// An alert record (`rule`, `severity`, `message`, `fields`).
pub const ALERT: u32 = 6144;
pub const ALERT_SIZE: u32 = 28;

/// Numbers of 32 bits, one after the other.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Default for Module {
    fn default() -> Self {
        Self {
            start: String::new(),
            describe: format!("(i32.const {DESCRIPTION})"),
            configure: format!("(i32.const {CONFIGURED})"),
            check: format!("(call $drop (local.get 14)) (i32.const {VERDICT})"),
            after_check: String::new(),
            exit: format!("(call $drop (local.get 15)) (i32.const {NO_ALERTS})"),
            process: format!("(call $drop (local.get 7)) (i32.const {NO_ALERTS})"),
            // The same place again and again: nothing is kept.
            realloc: "(i32.const 131072)".into(),
            memory: "64".into(),
            more: String::new(),
            imports: String::new(),
            data: Vec::new(),
        }
    }
}

impl Module {
    /// Puts bytes into its memory.
    pub fn with(mut self, at: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.data.push((at, bytes.into()));
        self
    }

    /// Gives it another settings schema.
    pub fn schema(self, text: &str) -> Self {
        self.with(DESCRIPTION + 24, words(&[SCHEMA, text.len() as u32])).with(SCHEMA, text)
    }

    /// Its answer has so many alerts, of these records.
    pub fn alerts(self, count: u32, records: impl Into<Vec<u8>>) -> Self {
        self.with(VERDICT + 4, words(&[ALERT, count])).with(ALERT, records)
    }

    fn text(&self) -> String {
        let header = "i64 i64 i32 i32 i32 i32 i64 i64 i64 i64 i64 i64";
        let (name, call) = (NAME, NAME + 64);
        let rules = [words(&[call, 8, 0, 0, 0]), words(&[call, 8, 1, 0, 0])].concat();
        let standard = [
            (name, b"hostile".to_vec()),
            (NAME + 16, b"1.0.0".to_vec()),
            (NAME + 32, b"Does harm".to_vec()),
            (NAME + 48, b"{}".to_vec()),
            (call, b"fchmodat".to_vec()),
            // What it is; that it takes its settings; what it wants.
            (DESCRIPTION, words(&[name, 7, NAME + 16, 5, NAME + 32, 9, NAME + 48, 2])),
            (CONFIGURED, words(&[0, 0, RULES, 2, NAME + 128, 1])),
            (NAME + 128, vec![1]),
            (RULES, rules),
            (VERDICT, words(&[0, 0, 0])),
            (NO_ALERTS, words(&[0, 0])),
        ];
        let data = |(at, bytes): &(u32, Vec<u8>)| {
            let bytes = bytes.iter().fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"));
            format!("(data (i32.const {at}) \"{bytes}\")")
        };
        let data: Vec<String> = standard.iter().chain(&self.data).map(data).collect();
        let export = |interface: &str| format!("tracegate:plugin/{interface}@0.1.0");
        let start =
            if self.start.is_empty() { String::new() } else { format!("(func $start {}) (start $start)", self.start) };
        let after = if self.after_check.is_empty() {
            String::new()
        } else {
            format!("(func (export \"cabi_post_{}#check\") (param i32) {})", export("syscall-entry"), self.after_check)
        };
        format!(
            "(module
               (import \"{types}\" \"[resource-drop]event\" (func $drop (param i32)))
               {imports}
               (memory (export \"memory\") {memory})
               {more}
               {start}
               {after}
               (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) {realloc})
               (func (export \"{lifecycle}#describe\") (result i32) {describe})
               (func (export \"{lifecycle}#configure\") (param i32 i32) (result i32) {configure})
               (func $check (export \"{entry}#check\") (param {header} i32 i32 i32) (result i32) {check})
               (func (export \"{exit}#observe\") (param {header} i32 i32 i64 i32) (result i32) {observe})
               (func (export \"{processes}#observe\") (param i64 i64 i32 i32 i32 i32 i32 i32) (result i32) {process})
               {data})",
            types = export("types"),
            lifecycle = export("lifecycle"),
            entry = export("syscall-entry"),
            exit = export("syscall-exit"),
            processes = export("process-events"),
            imports = self.imports,
            memory = self.memory,
            more = self.more,
            realloc = self.realloc,
            describe = self.describe,
            configure = self.configure,
            check = self.check,
            observe = self.exit,
            process = self.process,
            data = data.join("\n"),
        )
    }

    /// The component.
    pub fn encode(&self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("plugin.wit", include_str!("../../wit/plugin.wit")).unwrap();
        let world = resolve.select_world(&[package], Some("plugin-with-all-hooks")).unwrap();
        let mut module = wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{error}"));
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
        ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    }
}
