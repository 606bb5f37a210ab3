/* Prints how a container stands: now, and at each change, until it is stopped. Anybody may.
 *
 * Build: cc -o watch-container watch-container.c $(pkg-config --cflags --libs libsystemd)
 * Usage: watch-container ID
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#define NAME "org.opdbus"

static int failed(const sd_bus_error *error, int status) {
    fprintf(stderr, "%s\n", error->message ? error->message : strerror(-status));
    return EXIT_FAILURE;
}

/* The container's object path: paths are not put together by hand, for op-dbus escapes names. */
static int find(sd_bus *bus, const char *id, char **path, sd_bus_error *error) {
    sd_bus_message *reply = NULL;
    const char *found, *kind, *name;
    int status = sd_bus_call_method(bus, NAME, "/org/opdbus/state", NAME ".State", "ListResources", error, &reply,
                                    "a{sv}sua{sv}", 2, "kind", "s", "container", "name-prefix", "s", id, "", 1, 0);
    if (status < 0) return status;
    if ((status = sd_bus_message_enter_container(reply, 'a', "(ossssa{sv})")) > 0 &&
        (status = sd_bus_message_enter_container(reply, 'r', "ossssa{sv}")) > 0 &&
        (status = sd_bus_message_read(reply, "oss", &found, &kind, &name)) > 0)
        status = strcmp(name, id) == 0 && (*path = strdup(found)) != NULL;
    sd_bus_message_unref(reply);
    return status;
}

/* Prints it, where it is not what was printed last: one change of a container is a signal for each of its interfaces. */
static int show(sd_bus *bus, const char *path, const char *id, sd_bus_error *error) {
    static char last[256];
    char now[sizeof last];
    int running;
    char *standing = NULL;
    int status = sd_bus_get_property_trivial(bus, NAME, path, NAME ".Container", "Running", error, 'b', &running);
    if (status < 0) return status;
    status = sd_bus_get_property_string(bus, NAME, path, NAME ".Resource", "Status", error, &standing);
    if (status < 0) return status;
    snprintf(now, sizeof now, "container %s: running %s, %s", id, running ? "true" : "false", standing);
    free(standing);
    if (strcmp(now, last) != 0) {
        puts(now);
        fflush(stdout);
        strcpy(last, now);
    }
    return 0;
}

static int changed(sd_bus_message *message, void *news, sd_bus_error *error) {
    (void)message;
    (void)error;
    *(bool *)news = true;
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: watch-container ID\n");
        return EXIT_FAILURE;
    }
    sd_bus *bus = NULL;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int status = sd_bus_open_system(&bus);
    if (status < 0) return failed(&error, status);
    char *path = NULL;
    status = find(bus, argv[1], &path, &error);
    if (status < 0) return failed(&error, status);
    if (!path) {
        fprintf(stderr, "there is no container %s\n", argv[1]);
        return EXIT_FAILURE;
    }

    /* First the match for the signal, then the look: what happens in between is not missed. */
    bool news = true;
    status = sd_bus_match_signal(bus, NULL, NAME, path, "org.freedesktop.DBus.Properties", "PropertiesChanged", changed,
                                 &news);
    while (status >= 0) {
        if (news) {
            news = false;
            if ((status = show(bus, path, argv[1], &error)) < 0) break;
        }
        /* 0 = nothing is left to be dealt with. */
        status = sd_bus_process(bus, NULL);
        if (status == 0 && !news) status = sd_bus_wait(bus, UINT64_MAX);
    }
    return failed(&error, status);
}
