//! The macros that declare the ABI, once for Rust and once as the table that the test `abi` compares with C.

/// Declares the modules that hold [`abi!`] declarations, re-exports their items, and (in tests) collects their tables.
macro_rules! declaration_modules {
    ($($module:ident),*) => {
        $(mod $module; pub use $module::*;)*

        #[cfg(test)]
        pub(crate) const TABLES: &[abi::Table] = &[$($module::TABLE),*];
    };
}

/// Declares one module's part of the ABI.
///
/// * `enum name: repr { CONST = value, ... }` becomes a type alias and constants: a value that the library sends isn't
///   bound to be one this crate knows, so a Rust `enum` would be unsound.
/// * `const NAME: type = value`.
/// * `record struct name { ... }` and `record union name { ... }`, `repr(C)`; `= "C type"` after the name where C has no
///   tag for it. `: grows` marks a struct whose size travels with every call, so that newer headers may have appended to it;
///   `: grows_down` one that newer headers prepend to, declared here from its first field that is used.
macro_rules! abi {
    (
        $(enum $enum:ident: $repr:ty { $($variant:ident = $value:expr),* $(,)? })*
        $(const $const:ident: $const_type:ty = $const_value:expr;)*
        $($(#[$meta:meta])* record $kind:tt $name:ident $(= $c_type:literal)? $(: $growth:ident)? {
            $($field:ident: $field_type:ty),* $(,)?
        })*
    ) => {
        $(pub type $enum = $repr; $(pub const $variant: $enum = $value;)*)*
        $(pub const $const: $const_type = $const_value;)*
        $(
            $(#[$meta])*
            #[repr(C)]
            pub $kind $name { $(pub $field: $field_type),* }

            impl $name {
                /// The value whose bytes are all zero, which is how C programs prepare these.
                pub const fn zeroed() -> Self {
                    // SAFETY: every type declared by this macro consists of integers, raw pointers, `Option`s of
                    // functions, glibc's pthread types (zero is their static initialiser), and arrays, structs and
                    // unions of these; all-zero bytes are a valid value of each.
                    unsafe { core::mem::zeroed() }
                }
            }
        )*

        #[cfg(test)]
        pub(crate) const TABLE: crate::abi::Table = crate::abi::Table {
            enums: &[$((stringify!($enum), size_of::<$enum>(), <$enum>::MIN != 0)),*],
            constants: &[
                $($((stringify!($variant), $variant as i128),)*)*
                $((stringify!($const), $const as i128),)*
            ],
            records: &[$(crate::abi::Record {
                name: stringify!($name),
                c_type: declare_c_type!($kind $name $($c_type)?),
                growth: concat!("" $(, stringify!($growth))?),
                size: size_of::<$name>(),
                align: align_of::<$name>(),
                fields: &[$(crate::abi::Field {
                    name: stringify!($field),
                    rust_type: stringify!($field_type),
                    offset: core::mem::offset_of!($name, $field),
                    size: size_of::<$field_type>(),
                }),*],
            }),*],
        };
    };
}

#[cfg(test)]
macro_rules! declare_c_type {
    ($kind:tt $name:ident) => {
        concat!(stringify!($kind), " ", stringify!($name))
    };
    ($kind:tt $name:ident $c_type:literal) => {
        $c_type
    };
}
