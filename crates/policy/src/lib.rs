//! What the user wrote, validated, and what it compiles to
