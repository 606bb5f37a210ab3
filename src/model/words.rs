//! Enums of words: each variant with its one text, on the bus, in a document, in a backend.

/// Makes an enum of words: each variant with its text.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// The same for words that documents hold.
macro_rules! document_words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        crate::model::words::words! {
            $(#[$outer])*
            #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
            $name { $($(#[$inner])* #[serde(rename = $text)] $variant = $text),+ }
        }
    };
}

pub(crate) use {document_words, words};
