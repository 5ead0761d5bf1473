"""What is decided: pure rules from (state, command, time) to events. Nothing here reads a clock or touches a wire."""
