//! How structures and bit fields are declared.

/// Declares a structure as it lies on the wire.
///
/// `offset => field: type` per field. The offsets and the size are asserted at compile time, all
/// fields are public (reserved ones too, so that the update syntax works), the default is all
/// zero bits, and the type can be read from any bytes.
macro_rules! wire {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $size:literal {
            $($(#[$field_meta:meta])* $at:literal => $field:ident: $ty:ty,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone,
            Debug,
            PartialEq,
            Eq,
            ::zerocopy::FromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout,
            ::zerocopy::Unaligned,
        )]
        #[repr(C)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $ty,)+
        }

        const _: () = assert!(size_of::<$name>() == $size);
        $(const _: () = assert!(::core::mem::offset_of!($name, $field) == $at);)+

        impl Default for $name {
            fn default() -> Self {
                ::zerocopy::FromZeros::new_zeroed()
            }
        }
    };
}

/// Declares an integer of bit fields with a getter and a builder for each.
///
/// `getter, builder: type = high : low` per field; the type is `bool` for a single bit. A builder
/// cuts a value off at the width of its field.
macro_rules! bits {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($repr:ty) {
            $($(#[$field_meta:meta])* $get:ident, $with:ident: $ty:tt = $hi:literal : $lo:literal;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name(pub $repr);

        #[allow(
            clippy::cast_possible_truncation,
            trivial_numeric_casts,
            reason = "a field is masked to its width, which its type holds"
        )]
        impl $name {
            $(
                $(#[$field_meta])*
                #[inline]
                #[must_use]
                pub const fn $get(self) -> $ty {
                    let field = (self.0 >> $lo) & (<$repr>::MAX >> (<$repr>::BITS - 1 - ($hi - $lo)));
                    bits!(@from $ty, field)
                }

                #[doc = concat!("The same with [`", stringify!($get), "`](Self::", stringify!($get), ") set.")]
                #[inline]
                #[must_use]
                pub const fn $with(self, value: $ty) -> Self {
                    let mask = <$repr>::MAX >> (<$repr>::BITS - 1 - ($hi - $lo));
                    Self(self.0 & !(mask << $lo) | ((value as $repr) & mask) << $lo)
                }
            )+
        }

        impl ::core::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($get), &self.$get()))+
                    .finish()
            }
        }

        impl From<$name> for $repr {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
    (@from bool, $field:ident) => { $field != 0 };
    (@from $ty:tt, $field:ident) => { $field as $ty };
}

/// Declares numbers with names: constants, and a lookup of the words for one.
macro_rules! numbers {
    (
        $(#[$meta:meta])*
        $vis:vis mod $module:ident: $repr:ty {
            $($(#[$item_meta:meta])* $name:ident = $value:literal, $text:literal;)+
        }
    ) => {
        $(#[$meta])*
        $vis mod $module {
            $(
                $(#[$item_meta])*
                #[doc = concat!("`", stringify!($value), "`: ", $text, ".")]
                pub const $name: $repr = $value;
            )+

            /// The words for a number; `None` when it is reserved or unknown.
            #[must_use]
            pub const fn name(number: $repr) -> Option<&'static str> {
                match number {
                    $($value => Some($text),)+
                    _ => None,
                }
            }
        }
    };
}

/// Declares flags: constants of a module.
macro_rules! flags {
    (
        $(#[$meta:meta])*
        $vis:vis mod $module:ident: $repr:ty {
            $($name:ident = $bit:literal, $text:literal;)+
        }
    ) => {
        $(#[$meta])*
        $vis mod $module {
            $(
                #[doc = concat!("Bit ", stringify!($bit), ": ", $text, ".")]
                pub const $name: $repr = 1 << $bit;
            )+
        }
    };
}
