//! Compares every declaration of this crate with the installed `infiniband/verbs.h`, by compiling C against it.
//!
//! Other versions of rdma-core are compared by pointing `CPATH` at their headers.

use std::fmt::Write as _;
use std::process::Command;

/// One module's declarations.
pub(crate) struct Table {
    /// Name, size, whether it is signed.
    pub(crate) enums: &'static [(&'static str, usize, bool)],
    pub(crate) constants: &'static [(&'static str, i128)],
    pub(crate) records: &'static [Record],
}

/// One struct or union.
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) c_type: &'static str,
    pub(crate) growth: &'static str,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) fields: &'static [Field],
}

/// One field of a struct or union.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) rust_type: &'static str,
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

/// Writes `_Static_assert(condition, "message")`, so that one compilation names everything that differs.
fn expect(program: &mut String, condition: &str, message: &str) {
    writeln!(program, "_Static_assert({condition}, \"{message}\");").unwrap();
}

/// The C spelling of a Rust type, or `None` for a function pointer that is never called.
fn c_type(rust: &str) -> Option<String> {
    let rust = rust.split_whitespace().collect::<Vec<_>>().join(" ");
    if rust == "Slot" {
        return None;
    }
    if let Some(pointee) = rust.strip_prefix("*mut ") {
        return Some(format!("{} *", c_type(pointee)?));
    }
    if let Some(pointee) = rust.strip_prefix("*const ") {
        return Some(format!("const {} *", c_type(pointee)?));
    }
    if let Some(array) = rust.strip_prefix('[') {
        let (element, length) = array.strip_suffix(']')?.split_once(';')?;
        return Some(format!("__typeof__({}[{}])", c_type(element)?, length.trim()));
    }
    if let Some(function) = rust.strip_prefix("Option<") {
        return c_function(function.strip_suffix('>')?).map(|(result, list)| format!("{result} (*)({list})"));
    }
    Some(match rust.as_str() {
        "c_void" => "void".into(),
        "c_char" => "char".into(),
        "c_int" => "int".into(),
        "c_uint" => "unsigned int".into(),
        "usize" => "size_t".into(),
        "isize" => "ssize_t".into(),
        "u8" | "u16" | "u32" | "u64" => format!("uint{}_t", &rust[1..]),
        "__be32" | "__be64" | "pthread_mutex_t" | "pthread_cond_t" => rust,
        name => match crate::TABLES.iter().flat_map(|table| table.records).find(|record| record.name == name)
        {
            Some(record) => record.c_type.into(),
            None if crate::TABLES.iter().flat_map(|table| table.enums).any(|(known, ..)| *known == name) => {
                format!("enum {name}")
            }
            None => format!("struct {name}"),
        },
    })
}

/// Result and parameter list of a Rust function type, in C.
fn c_function(rust: &str) -> Option<(String, String)> {
    let (_, rest) = rust.split_once("fn(")?;
    let (arguments, result) = rest.rsplit_once(')')?;
    let arguments = arguments.split(',').filter(|argument| !argument.trim().is_empty());
    let list = arguments.map(c_type).collect::<Option<Vec<_>>>()?.join(", ");
    let result = result.split_once("->").map_or(Some("void".into()), |(_, result)| c_type(result))?;
    Some((result, list))
}

fn check_record(program: &mut String, record: &Record) {
    let Record { c_type: c, name, .. } = record;
    // Newer headers may put fields in front of such a struct: it is measured from the first field declared here.
    let start = match record.growth {
        "grows_down" => format!("offsetof({c}, {})", record.fields[0].name),
        _ => "0".into(),
    };
    let comparison = if record.growth == "grows" { ">=" } else { "==" };
    let size = record.size;
    expect(program, &format!("sizeof({c}) - {start} {comparison} {size}"), &format!("size of {name}"));
    expect(program, &format!("_Alignof({c}) == {}", record.align), &format!("alignment of {name}"));
    let mut covered = 0;
    for field in record.fields {
        let field_name = field.name.trim_start_matches("r#");
        let (offset, size) = (field.offset, field.size);
        let path = format!("{name}.{field_name}");
        expect(
            program,
            &format!("offsetof({c}, {field_name}) - {start} == {offset}"),
            &format!("offset of {path}"),
        );
        expect(program, &format!("sizeof((({c} *)0)->{field_name}) == {size}"), &format!("size of {path}"));
        if let Some(expected) = c_type(field.rust_type) {
            let condition =
                format!("__builtin_types_compatible_p(__typeof__((({c} *)0)->{field_name}), {expected})");
            expect(program, &condition, &format!("type of {path}"));
        }
        covered = covered.max(offset + size);
    }
    assert!(record.size - covered < record.align, "{name} ends with bytes that no field covers");
}

/// The C program: nothing but assertions.
fn program() -> String {
    let mut program = String::from("#include <stddef.h>\n#include <infiniband/verbs.h>\n");
    for table in crate::TABLES {
        for (name, size, signed) in table.enums {
            expect(&mut program, &format!("sizeof(enum {name}) == {size}"), &format!("size of {name}"));
            let is_signed = format!("((enum {name})-1 < 0) == {}", u8::from(*signed));
            expect(&mut program, &is_signed, &format!("signedness of {name}"));
        }
        for (name, value) in table.constants {
            expect(&mut program, &format!("(long long){name} == {value}LL"), &format!("value of {name}"));
        }
        for record in table.records {
            check_record(&mut program, record);
        }
    }
    for (name, signature) in crate::symbols::SIGNATURES {
        let (result, list) = c_function(signature).expect("only plain function types are declared");
        // A second declaration that differs from the header's is an error. Some names are also macros.
        writeln!(program, "#undef {name}\nextern {result} {name}({list});").unwrap();
    }
    program
}

#[test]
fn declarations_match_the_installed_header() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("abi.c");
    std::fs::write(&source, program()).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(&compiler)
        .args(["-std=gnu11", "-fsyntax-only"])
        .arg(&source)
        .output()
        .unwrap_or_else(|error| panic!("{compiler:?} can't be run: {error}; install gcc"));
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(
        !messages.contains("infiniband/verbs.h: No such file"),
        "infiniband/verbs.h isn't installed; install libibverbs-dev"
    );
    assert!(output.status.success(), "declarations differ from infiniband/verbs.h:\n{messages}");
}

#[test]
fn comparison_notices_a_wrong_declaration() {
    let mut wrong = String::from("#include <stddef.h>\n#include <infiniband/verbs.h>\n");
    let fields = &[Field { name: "length", rust_type: "u64", offset: 4, size: 8 }];
    check_record(
        &mut wrong,
        &Record { name: "ibv_sge", c_type: "struct ibv_sge", growth: "", size: 12, align: 4, fields },
    );
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("wrong.c");
    std::fs::write(&source, wrong).unwrap();
    let output = Command::new("cc").args(["-std=gnu11", "-fsyntax-only"]).arg(&source).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    for mistake in
        ["size of ibv_sge", "alignment of ibv_sge", "offset of ibv_sge.length", "type of ibv_sge.length"]
    {
        assert!(messages.contains(mistake), "{mistake} passed unnoticed:\n{messages}");
    }
}
