/* Sets a document and waits for the end of its job; ends with 0 if all of it holds.
 *
 * Build: cc -o set-document set-document.c $(pkg-config --cflags --libs libsystemd)
 * Usage: set-document FILE
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#define NAME "org.opdbus"

/* Prints the error's own words: of a document with faults each is a line, with its place. */
static int failed(const sd_bus_error *error, int status) {
    fprintf(stderr, "%s\n", error->message ? error->message : strerror(-status));
    return EXIT_FAILURE;
}

/* All of a file as a text, or NULL. */
static char *text_of(const char *path) {
    char *text = NULL;
    size_t length = 0;
    FILE *file = fopen(path, "re");
    if (!file) return NULL;
    /* JSON has no zero bytes: what stands before the first is the whole file. */
    if (getdelim(&text, &length, '\0', file) < 0) {
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: set-document FILE\n");
        return EXIT_FAILURE;
    }
    char *document = text_of(argv[1]);
    if (!document) {
        perror(argv[1]);
        return EXIT_FAILURE;
    }

    sd_bus *bus = NULL;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int status = sd_bus_open_system(&bus);
    if (status < 0) return failed(&error, status);

    sd_bus_message *reply = NULL;
    uint64_t generation;
    const char *job;
    status = sd_bus_call_method(bus, NAME, "/org/opdbus/state", NAME ".State", "SetDesiredState", &error, &reply, "s",
                                document);
    if (status < 0 || (status = sd_bus_message_read(reply, "to", &generation, &job)) < 0) return failed(&error, status);

    /* A job may take as long as the slowest start: sd-bus's own 25 s are not enough. */
    sd_bus_message *wait = NULL, *answer = NULL;
    const char *result;
    status = sd_bus_message_new_method_call(bus, &wait, NAME, job, NAME ".Job", "Wait");
    if (status < 0 || (status = sd_bus_call(bus, wait, UINT64_MAX, &error, &answer)) < 0 ||
        (status = sd_bus_message_read(answer, "s", &result)) < 0)
        return failed(&error, status);

    char *message = NULL;
    status = sd_bus_get_property_string(bus, NAME, job, NAME ".Job", "Message", &error, &message);
    if (status < 0) return failed(&error, status);
    printf("generation %" PRIu64 ", %s: %s\n", generation, result, message);
    int holds = !strcmp(result, "done") || !strcmp(result, "unchanged");

    free(message);
    free(document);
    sd_bus_message_unref(answer);
    sd_bus_message_unref(wait);
    sd_bus_message_unref(reply);
    sd_bus_error_free(&error);
    sd_bus_flush_close_unref(bus);
    return holds ? EXIT_SUCCESS : EXIT_FAILURE;
}
